"""How fast the hub is, always as a ratio measured in one run; see README.md here."""
