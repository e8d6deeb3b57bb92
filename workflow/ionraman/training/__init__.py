"""Making the models: labels, fits, and their export to the folders that ship."""
