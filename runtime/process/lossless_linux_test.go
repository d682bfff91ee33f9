package process

// lossless is whether output survives its supervisor's death to the last line.
const lossless = true
