"""Writers: events become recording files, for tests, exchange and migration."""
