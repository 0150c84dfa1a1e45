"""Intent to flows, and the Ryu applications that bring them to the switches."""
