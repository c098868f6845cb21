"""What others add: which kinds of things a package may bring, what is installed, and a project to start from."""
