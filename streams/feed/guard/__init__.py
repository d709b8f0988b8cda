"""What keeps an agent from making calls that the workers have judged: circuits, budgets, loops."""
