"""OpenFlow: messages as bytes, one switch session, and packets that the switch sends to the controller."""
