"""Second models behind one interface: a judge, a teacher, a reward model or an embedder, local or on a server."""
