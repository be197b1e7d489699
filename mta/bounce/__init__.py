"""What a refusal means: the category of a reply. Later also VERP, DSNs and feedback reports. Pure;
decides nothing."""
