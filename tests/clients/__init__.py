"""Round trips of real clients: each writes records of every codec and reads back exactly those."""
