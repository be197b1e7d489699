"""How mail comes in: the SMTP driver, and the intake, the single door behind which a message is named, signed and committed."""
