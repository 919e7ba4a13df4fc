"""The security room: who calls, what opens a door, and the certificates that both sides show."""
