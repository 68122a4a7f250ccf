"""Collection of frames from an environment, in this process or in others."""
