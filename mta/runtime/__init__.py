"""Assembly: the only floor that builds objects – governor, worker, followers, and the supervisor that holds them."""
