# %% [markdown]
# # tuning

# %%
print(1)
