"""Durable workflows inside one Python process: no database, no broker, one directory."""
