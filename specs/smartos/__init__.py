"""What SmartOS writes of an overlay: rules as dladm(8) takes them, and the table of the search plug-in `files`. Pure."""
