"""What Passenger loads: the door to the hub. Everything else is in the installed package."""

from pathlib import Path

from hub.passenger import Door

application = Door(Path(__file__).parent)
