"""Who we are, whom we trust, and where the service is. Opens no connection of its own."""
