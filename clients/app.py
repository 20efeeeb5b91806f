"""The client's door: the Flower ClientApp that every client machine runs (see README.md beside this file)."""

from fedjourney.client import client_app

app = client_app()  # Flower reads this file's syntax: `app` must be bound by a plain assignment
