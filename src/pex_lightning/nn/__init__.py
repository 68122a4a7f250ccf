"""Networks: perceptrons, the critic, the Gaussian policy."""
