"""The whole way on a lab: real etcd, real Docker Engines, real namespaces, and `stack` typed as a person would."""
