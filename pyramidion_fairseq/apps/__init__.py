"""What people look at: reports that explain a summary, and the server with its form."""
