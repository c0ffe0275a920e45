"""What a framework's folder promises, checked: `faceoff check NAME`; and a folder to begin with."""
