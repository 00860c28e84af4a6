"""GRPO, DAPO, VGPO and their neighbours on top of TRL's trainer."""
