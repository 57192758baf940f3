"""Templates that launch a cluster: ``ray up``, KubeRay, Slurm, a container image. docs/multi-node.md explains them."""
