"""The commands: options in, people's text or --json out, and an exit status that means something."""
