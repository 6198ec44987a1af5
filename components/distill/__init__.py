"""The node that distils: a Trainer that is given two sets of examples."""
