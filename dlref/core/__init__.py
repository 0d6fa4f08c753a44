"""The mechanism: pairs, the bridge to autograd, modules, optimizers. No mathematics of networks."""
