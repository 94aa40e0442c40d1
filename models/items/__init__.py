"""Item encoders: from attributes to an item's vector, so that an item without history can be listed.

What an attribute becomes in numbers is `stream.item_features`, one code for training and serving; which
fields there are is found by `fit`; `encoder` turns the numbers into a vector, and `table` joins it with what
is learned of each item by itself.
"""
