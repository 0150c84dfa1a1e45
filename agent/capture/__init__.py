"""Packet captures of endpoints, streamed as pcap."""
