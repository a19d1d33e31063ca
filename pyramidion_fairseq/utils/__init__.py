"""What has to do with neither summaries nor models: files, quiet imports, versions of packages."""
