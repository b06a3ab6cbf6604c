"""Evidence: one message and all that proves it, in one file for somebody who trusts nobody.

``bundle`` says what is in it, ``archive`` writes it as a zip that is the same byte for byte
wherever it is made, ``check`` verifies such a zip, and ``cover.html`` does so in a browser.
"""
