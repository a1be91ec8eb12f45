"""Staff, crews and devices: who may call, for which territories, on behalf of which crew."""
