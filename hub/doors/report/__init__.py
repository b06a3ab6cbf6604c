"""The periodic report: figures of the log as a page to read, print and keep."""
