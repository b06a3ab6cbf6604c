"""The program ``nhri-connector``: what a person types, and what is printed."""
