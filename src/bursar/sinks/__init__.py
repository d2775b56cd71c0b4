"""Where events go. Each file is one sink; all take the same schema (`event.encode`)."""
