"""`python -m agent` is `lmarena-agent`."""

from agent.cli import main

if __name__ == "__main__":
    main(prog_name="lmarena-agent")
