"""How seldom a program looks for garbage; the worker apart, each imports this module first.

What is imported lives as long as the program. Looking through it again and again while more is
imported takes 7 % of the CPU of a listener's start, so from here on there is no look until
`runner` begins.
"""

import gc

COLLECTED_AFTER = (50_000, 20, 100)
"""Objects made and not freed, collections of these, and collections of those, upon which garbage
is looked for while a program runs. What waits in a queue is no garbage, and there are hardly any
cycles: with the interpreter's own numbers a tenth of the CPU of a worker under load goes into
looking. Its memory is the same after 700 000 messages."""

IMPORTED = 200_000
"""Objects after which garbage is looked for before a program runs: more than the imports of all of
them together make (135 000). Not never, as tests import programs too."""

gc.set_threshold(IMPORTED)
