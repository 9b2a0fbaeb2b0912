"""What every room of the package may use: errors, files, printing, optional packages."""
