"""How mail comes in: the SMTP driver, and the intake – the single door behind which every message is named, signed and committed."""
