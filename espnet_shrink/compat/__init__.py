"""All that is known of ESPnet's inside and of the differences between its versions.

hooks.py teaches ESPnet the plugin, tasks.py names its tasks, models.py loads its models, text.py
makes its token ids, trainer.py speaks to its trainer. Tested with ESPnet 202511 and 202611.
"""
