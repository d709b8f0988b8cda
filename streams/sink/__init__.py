"""Tables out: the catalogue of metrics, the view that readers hold, and its texts.  Pure; floats exist only here."""
