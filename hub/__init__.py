"""The hub: takes messages in at a door, records them in the log, routes and delivers them."""
