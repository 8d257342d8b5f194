"""Who says that an engine was approved: keys, whom to trust, and what exactly was signed.

    keys.py        the private key of releases, in a file of its owner's
    trust.py       public keys that count here, and those that no longer do
    keyring.py     where both lie, and what is done with them: create, rotate, retire, revoke
    envelope.py    a DSSE envelope around an in-toto statement: made, and opened by a trusted key
    decisions.py   the statement that the gate approved one engine, over everything that the decision rests on
    promotion.py   the statement that a release made one version the champion
    bundles.py     the decisions of a whole bundle

A digest proves nothing against somebody who rewrites it together with what it is the digest of; a signature does. The
private key is in no store, bundle or log.
"""
