"""What is published of a card, part after part in the order of their worth, on a machine that may go at any moment.

`plan` says what is run, `running` runs a part within its time limit, `states` keeps what has become of each, `packing`
fits it into few files, `carried` makes the packages importable that the machine lacks, and `preparing` fetches them
beforehand. All but the last import the standard library alone, so that a bare interpreter can begin.
"""
