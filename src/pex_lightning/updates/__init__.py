"""How an update is executed: plain, or compiled."""
