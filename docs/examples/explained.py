import numpy as np

MEAN = np.array([123.68, 116.779, 103.939])


def preprocess(x):
    x = x.astype(np.float32)
    x = x[..., ::-1] - MEAN
    x /= np.array([58.4, 57.1, 57.4])
    return x.astype(np.float32)
