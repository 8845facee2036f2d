"""OpenAI's Whisper in ESPnet: what newer versions of its package lack, models without downloads.

package.py     what ESPnet's classes expect of the package, put there when it is imported
tokenizer.py   the tokenizer that they expect
sizes.py       a model's sizes as a name that ESPnet's configs can hold
experiment.py  an ESPnet experiment of a Whisper checkpoint
"""
