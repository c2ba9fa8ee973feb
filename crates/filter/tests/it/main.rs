mod errors;
mod facts;
mod hostile;
mod properties;
