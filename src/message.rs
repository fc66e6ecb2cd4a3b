//! The nouns that outlive a process: ids, submissions, records, states.
