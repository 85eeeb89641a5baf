"""Where cluster metadata lives: ZooKeeper's operations behind one interface, and the embedded store."""
