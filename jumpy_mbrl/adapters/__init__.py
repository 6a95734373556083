"""The environments in the forms that other libraries want."""
