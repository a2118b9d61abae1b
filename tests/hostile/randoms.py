def script(suite, seed): pass
