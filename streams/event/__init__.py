"""What an agent says: the kinds of CallbackEvent and how bytes become them.  Pure."""
