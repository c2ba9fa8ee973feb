// P: read the section "client split" at the end of interfaces.md before starting here. Remove this line then.
